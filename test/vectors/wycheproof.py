#!/usr/bin/env python3
"""Writes the files of cases from the test vectors of C2SP/wycheproof (Apache-2.0).

usage: wycheproof.py DIRECTORY > wycheproof.txt
       wycheproof.py DIRECTORY ed25519 > wycheproof_ed25519.txt

DIRECTORY is a checkout's testvectors_v1.  Only what the suites can be asked is
kept: AES-256-GCM with 96-bit nonces, XChaCha20-Poly1305 with 192-bit nonces,
both with 128-bit tags; signatures of 64 bytes.
"""
import json
import os
import sys

SOURCES = [
    ("gcm", "aes_gcm_test.json", 96),
    ("xchacha", "xchacha20_poly1305_test.json", 192),
]
FIELDS = ("key", "iv", "aad", "msg", "ct", "tag")


def groups_of(file):
    with open(os.path.join(sys.argv[1], file), encoding="utf-8") as f:
        return json.load(f)["testGroups"]


def ciphers():
    print("# algorithm id result", *FIELDS)
    for name, file, nonce_bits in SOURCES:
        for group in groups_of(file):
            if (group["keySize"], group["ivSize"], group["tagSize"]) != (256, nonce_bits, 128):
                continue
            for t in group["tests"]:
                print(name, t["tcId"], t["result"], *(t[f] or "-" for f in FIELDS))


def signatures():
    print("# id result key msg sig")
    for group in groups_of("ed25519_test.json"):
        for t in group["tests"]:
            if len(t["sig"]) == 128:
                print(t["tcId"], t["result"], group["publicKey"]["pk"], t["msg"] or "-", t["sig"])


print("# From https://github.com/C2SP/wycheproof, testvectors_v1; "
      "Copyright Google and C2SP, Apache-2.0.")
print("# Made by wycheproof.py; - is an empty field.")
if sys.argv[2:] == ["ed25519"]:
    signatures()
else:
    ciphers()
