"""Computes 3DES keys, cryptograms and issuer responses with pyemv, which is not ours.

Reads a JSON list of cases from standard input and writes a JSON list of results to standard output.
Values are hexadecimal; card numbers and sequence numbers are decimal digits.
"""

import json
import sys
import warnings

from cryptography.utils import CryptographyDeprecationWarning
from pyemv import ac, cvn, kd

# pyemv uses 3DES in ways that `cryptography` means to drop; the pinned version still has them.
warnings.simplefilter("ignore", CryptographyDeprecationWarning)

# Field lengths of the data a CVN 18 cryptogram covers, before the issuer application data.
CVN18_FIELDS = [6, 6, 2, 5, 2, 3, 1, 4, 2, 2]


def split_fields(data):
    """Takes a CVN 18 input apart into the values pyemv wants one by one."""
    fields = []
    for length in CVN18_FIELDS:
        fields.append(data[:length])
        data = data[length:]
    return fields + [data]


def compute(case):
    master_key = bytes.fromhex(case["issuer_master_key"])
    counter = bytes.fromhex(case["atc"])
    data = bytes.fromhex(case["input"])
    status_update = bytes.fromhex(case["csu"])
    proprietary_data = bytes.fromhex(case["proprietary_data"])

    card_key = kd.derive_icc_mk_a(master_key, case["pan"], case["pan_sequence_number"])
    session_key = kd.derive_common_sk(card_key, counter + bytes(6))
    card = cvn.VisaCVN18(
        iss_mk_ac=master_key,
        iss_mk_smi=master_key,
        iss_mk_smc=master_key,
        pan=case["pan"],
        psn=case["pan_sequence_number"],
    )
    cryptogram = card.generate_ac(*split_fields(data))
    return {
        "card_master_key": card_key.hex(),
        "session_key": session_key.hex(),
        "cvn18_cryptogram": cryptogram.hex(),
        "mac_padding_method_1": ac.generate_ac(
            card_key, data, ac.PaddingType.VISA
        ).hex(),
        "arpc_method_2": card.generate_arpc(
            cryptogram, counter, status_update, proprietary_data
        ).hex(),
    }


json.dump([compute(case) for case in json.load(sys.stdin)], sys.stdout)
