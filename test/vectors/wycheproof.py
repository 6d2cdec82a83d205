#!/usr/bin/env python3
"""Writes wycheproof.txt from the test vectors of C2SP/wycheproof (Apache-2.0).

usage: wycheproof.py DIRECTORY > wycheproof.txt

DIRECTORY is a checkout's testvectors_v1.  Only what the suites can be asked is
kept: AES-256-GCM with 96-bit nonces, XChaCha20-Poly1305 with 192-bit nonces,
both with 128-bit tags.
"""
import json
import os
import sys

SOURCES = [
    ("gcm", "aes_gcm_test.json", 96),
    ("xchacha", "xchacha20_poly1305_test.json", 192),
]
FIELDS = ("key", "iv", "aad", "msg", "ct", "tag")

print("# From https://github.com/C2SP/wycheproof, testvectors_v1; "
      "Copyright Google and C2SP, Apache-2.0.")
print("# Made by wycheproof.py; - is an empty field.")
print("# algorithm id result", *FIELDS)
for name, file, nonce_bits in SOURCES:
    with open(os.path.join(sys.argv[1], file), encoding="utf-8") as f:
        groups = json.load(f)["testGroups"]
    for group in groups:
        if (group["keySize"], group["ivSize"], group["tagSize"]) != (256, nonce_bits, 128):
            continue
        for t in group["tests"]:
            print(name, t["tcId"], t["result"], *(t[f] or "-" for f in FIELDS))
