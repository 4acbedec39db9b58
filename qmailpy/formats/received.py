"""received - the Received lines of qmail-queue and of the servers, and the date in them. Pure.

Seconds are since 1970; dates are always in GMT."""

MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")

DAY = 86400  # seconds
ERA = 146097  # days in 400 years
EPOCH = 719468  # days from 1 March of the year 0 to 1 January 1970

# Bytes of a host's name and the like that a header shows as they are; all others become question marks.
SAFE = b".@%+/=:-[]abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_SAFE = bytes(byte if byte in SAFE else ord("?") for byte in range(256))


def date822(seconds: int) -> bytes:
    """`5 Nov 2001 09:03:07 -0000`."""
    days, second = divmod(seconds, DAY)
    era, day = divmod(days + EPOCH, ERA)
    year = (day - day // 1460 + day // 36524 - day // 146096) // 365  # of the era; years begin in March
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153  # 0 is March
    year += 400 * era + (month > 9)
    return b"%d %s %d %02d:%02d:%02d -0000" % (
        day - (153 * month + 2) // 5 + 1,
        MONTHS[(month + 2) % 12],
        year,
        second // 3600,
        second // 60 % 60,
        second % 60,
    )


def queue_line(pid: int, who: bytes, seconds: int) -> bytes:
    """qmail-queue's own line; who is `by uid 1000`, `by alias`, `from network` or `for bounce`."""
    return b"Received: (qmail %d invoked %s); %s\n" % (pid, who, date822(seconds))


def safe(text: bytes) -> bytes:
    """text as a Received line may show it: other bytes than letters, digits and a few signs are question marks."""
    return text.translate(_SAFE)


def encrypted(protocol: bytes, version: bytes, cipher: bytes) -> bytes:
    """`ESMTPS (TLSv1.3 TLS_AES_256_GCM_SHA384 encrypted)` for network_line; protocol alone if version or cipher, which
    are SSL_PROTOCOL and SSL_CIPHER, is empty."""
    if not version or not cipher:
        return protocol
    name = b"_".join([safe(part) for part in cipher.split(b"_")])
    return b"%s (%s %s encrypted)" % (protocol, safe(version), name)


def network_line(
    protocol: bytes,
    remote_host: bytes,
    helo: bytes | None,
    remote_info: bytes | None,
    remote_ip: bytes,
    local: bytes,
    seconds: int,
) -> bytes:
    """The two lines of qmail-smtpd and its like. protocol, such as SMTP, is shown as it is; helo, what the client calls
    itself, is None where that need not be shown, and remote_info where it is not known."""
    return b"Received: from %s%s (%s%s)\n  by %s with %s; %s\n" % (
        safe(remote_host),
        b"" if helo is None else b" (HELO %s)" % safe(helo),
        b"" if remote_info is None else safe(remote_info) + b"@",
        safe(remote_ip),
        safe(local),
        protocol,
        date822(seconds),
    )
