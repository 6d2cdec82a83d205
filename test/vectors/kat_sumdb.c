/*
 * kat_sumdb.c
 *		What kat.h says of sum.golang.org.
 */
#include "kat.h"

const char	sumdb_key[] = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";

const char	sumdb_note[] =
"go.sum database tree\n"
"58253265\n"
"lIyLAEe4zJUQAda6pFFg3yPOf7j1SgfMEDrpgoX39JU=\n"
"\n"
"\xe2\x80\x94 sum.golang.org Az3grkvBHbFcpEFQ3BhGlktgB7pcswIW+ez91eWY6rNPtWfAey8bJO2rVoG2yO5zXvgiaikWVHqon+e14JhA+WXvpAY=\n";

const uint64_t sumdb_index = 43930254;

const char	sumdb_leaf[] =
"github.com/transparency-dev/tessera v1.0.0 h1:4OT1V9xJLa5NnYlFWWlCdZkCm18/o12rdd+bCTje7XE=\n"
"github.com/transparency-dev/tessera v1.0.0/go.mod h1:TLvfjlkbmsmKVEJUtzO2eb9Q2IBnK3EJ0dI4G0oxEOU=\n";

const char *const sumdb_proof[SUMDB_PROOF] = {
	"Q2cuq1e21q4UC1RQ6wtmXmCxk2q3Wqz/yFvD12P2KSM=",
	"VdgHwjNYSv9fZVxvYzn8kySGvrjqeCnzdJqJILieWf4=",
	"ARfBpZjsj3LSP42V4xBVdCKbHVa4WXSbuFAa0rUSCVQ=",
	"0VYgz0Vmgz6jOM8H6edZBWHtO6+R7tPvN4EOwwRRSws=",
	"vq+ifloynXE+ORFC1wymQT0cpNIJA1tqg2mQpA55+kc=",
	"SCRewH6vHE1/Vwkt5yEW8xT7il0WbWltXjFIVqlGtQQ=",
	"p//fIG8jgZie4MMwjHF7quCIJ4hErr7U4at0HV34MZQ=",
	"D3K5YdBlxQcklrgF8vSbDyT05J5/mA9lzuhhp72uSOk=",
	"jeYlYyH9FhYGwu+ZJmfPr8GvSNdgrydwqmJgHsygoR0=",
	"p6RFgfGhu8Uuy0LyyZdI4MrSPOZkMe+ycwWJFfr8zTI=",
	"AMZsxrVKBPSe8nSNVVCTyTxWns0CiNbChG/FoiSJWuM=",
	"e+rtSmK5Pd1K5LgFwj7VSo5XJXOcq7OOcqPVZn1hqeM=",
	"expmv1e6XiGr5NMUjMRkSZijlcBx+fZcpqQmUnawhOY=",
	"+Wuic0YARH84k80/Q+KJIbhRCldxG8npjLFiHMLtEpo=",
	"NOMeJqlyUxFXUKYRI/1YqAF4WJBfXJr8UM/SlWGqxgY=",
	"Lm6+TAlLb2lvUs/3unZ2t6RSmJw8RO+WuEuUbAw3QEc=",
	"Jhh2EDG15gDBoLmLiF88lVTgd+uvx3L0xczb8Y3kSq8=",
	"taenaiKqtYMXS3gDzIF3q8VZzqAXqftHqL9BC39njaw=",
	"kZNKypGwEANnt1+msLINnqrIrwX+0MGZUTTKXTfbloI=",
	"A4NJSymjVJ5dvGPaGC3Gj04x8qVRKYfh0pP24mwd6Yk=",
	"KQq808D9W4NUgr4ip+rF/RCyAUERYKKCwKiiAJfaFOc=",
	"I3EVN3zM2rDjs5Q06Zr5gxhg+ksnX2h77E75uL+h3aI=",
	"7iNSYSDhMeRkeV7r9krKbKelNPiqDCJU1i6xAn/Fbuw=",
	"MYqdo6zSjxaAn+29EEjNRbPYm0myB3bheu+HTZIAbVY=",
	"S7olT9TPLXk+bbawbV3sAzWMmhcpWrtjbw++9ZTiyn8=",
	"xJ20xXM4QItt5vxFOtolZ5l18p7ej1+RimNkgWmoRFM=",
};
