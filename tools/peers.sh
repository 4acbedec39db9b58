#!/bin/sh
# Installs what is missing of the Debian packages in peers.txt, as root; elsewhere their tests are skipped.
# They are here as programs: no server among them starts, now or at the next boot.
set -eu
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0

tools=$(cd "$(dirname "$0")" && pwd)
beside=$tools/../var/peers # for what cannot be installed together with one of the others
exim=$beside/usr/sbin/exim4

missing=$(while read -r package; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || printf ' %s' "$package"
done <"$tools/peers.txt")
[ -n "$missing" ] || [ ! -x "$exim" ] || exit 0

new=$beside.new
policy=/usr/sbin/policy-rc.d # whose exit 101 forbids; that of a machine which has one stays
own=
trap 'rm -rf "$new"; [ -z "$own" ] || rm -f "$policy"' EXIT
trap 'exit 1' HUP INT TERM
if [ ! -e "$policy" ]; then
    own=1
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
apt-get update -q
[ -z "$missing" ] || DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
for package in dovecot-core postfix; do
    case "$missing " in
    *" $package "*) systemctl disable "${package%-core}.service" 2>/dev/null || : ;;
    esac
done
case "$missing " in
*' dovecot-core '*) systemctl disable dovecot.socket 2>/dev/null || : ;;
esac
if [ ! -x "$exim" ]; then # exim4 and postfix exclude each other
    rm -rf "$new" "$beside"
    mkdir -p "$new"
    (cd "$new" && apt-get download -q exim4-daemon-light 2>&1 && dpkg -x exim4-daemon-light_*.deb . && rm ./*.deb)
    chmod -R u-s,g-s "$new"
    mv "$new" "$beside"
fi
