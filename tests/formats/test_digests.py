import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from qmailpy.formats import digests


def test_the_examples_of_the_standards() -> None:
    assert digests.apop(b"<1896.697170952@dbc.mtview.ca.us>", b"tanstaaf") == b"c4c9334bac560ecc979e58001b3e22fb"
    challenge = b"<1896.697170952@postoffice.reston.mci.net>"
    assert digests.cram_md5(challenge, b"tanstaaftanstaaf") == b"b913a602c7eda7a495b4e6e7334d3890"


@given(st.binary(), st.binary(max_size=200))
def test_the_digests_are_those_of_hashlib_and_hmac(challenge: bytes, secret: bytes) -> None:
    assert digests.apop(challenge, secret) == hashlib.md5(challenge + secret).hexdigest().encode()
    assert digests.cram_md5(challenge, secret) == hmac.new(secret, challenge, "md5").hexdigest().encode()
