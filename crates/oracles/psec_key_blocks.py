"""Seals and opens key blocks with psec, which is not ours.

Reads a JSON list of cases from standard input and writes a JSON list of results to standard output. A
case opens our block, and seals the same key under the same header; keys are hexadecimal.
"""

import json
import sys
import warnings

from cryptography.utils import CryptographyDeprecationWarning
from psec import tr31

# psec knows 3DES, which `cryptography` means to drop; the pinned version still has it.
warnings.simplefilter("ignore", CryptographyDeprecationWarning)


def describe(header):
    return {
        "version": header.version_id,
        "usage": header.key_usage,
        "algorithm": header.algorithm,
        "mode": header.mode_of_use,
        "key_version": header.version_num,
        "exportability": header.exportability,
        "blocks": [[name, text] for name, text in header.blocks.items()],
    }


def seal(case, protection):
    fields = case["header"]
    header = tr31.Header(
        fields["version"],
        fields["usage"],
        fields["algorithm"],
        fields["mode"],
        fields["key_version"],
        fields["exportability"],
    )
    for name, text in fields["blocks"]:
        header.blocks[name] = text
    return tr31.wrap(protection, header, bytes.fromhex(case["key"]))


def compute(case):
    protection = bytes.fromhex(case["protection"])
    answer = {"sealed": seal(case, protection)}
    if "block" in case:
        header, key = tr31.unwrap(protection, case["block"])
        answer |= {"opened": key.hex(), "header": describe(header)}
    return answer


json.dump([compute(case) for case in json.load(sys.stdin)], sys.stdout)
