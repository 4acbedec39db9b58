"""The addresses of this machine, beside what ip(8) says."""

import json
import os
import socket

import pytest

from qmailpy.unix import interfaces
from tests.helpers import needs, run


def test_all_addresses_of_both_families_are_there() -> None:
    links = json.loads(run([needs("ip"), "-json", "address"]).stdout)
    expected = {
        socket.inet_pton(socket.AF_INET6 if ":" in one["local"] else socket.AF_INET, one["local"])
        for link in links
        for one in link["addr_info"]
    }
    assert interfaces.addresses() == expected
    assert b"\x7f\0\0\1" in expected


def test_no_descriptor_is_left() -> None:
    before = os.listdir("/proc/self/fd")
    interfaces.addresses()
    assert os.listdir("/proc/self/fd") == before


def test_an_error_is_an_error() -> None:
    message = (
        (20).to_bytes(4, "little") + (2).to_bytes(2, "little") + bytes(10) + (-13).to_bytes(4, "little", signed=True)
    )
    with pytest.raises(PermissionError):
        interfaces._read(message, set())
