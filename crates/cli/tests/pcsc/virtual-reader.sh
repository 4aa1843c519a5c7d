#!/bin/sh
# Starts the smart-card service and a card in network and mount namespaces of their own, so that the
# virtual reader's port (which listens on every address) is not reachable from outside, and a service
# that runs on this machine already is not disturbed. PC/SC programs outside reach the service over its
# socket: they set PCSCLITE_CSOCK_NAME=DIRECTORY/pcscd.comm.
#
# usage: virtual-reader.sh DIRECTORY COMMAND [ARGUMENTS...]
#
# DIRECTORY becomes /run/pcscd inside. COMMAND is the card; it dials the virtual reader on loopback.
# The first line of standard input goes to COMMAND: the share of its store, since it has no network. A second line is
# the share of the wallet in $TAPFER_SECOND_WALLET, which is then put into the virtual reader's second slot.
# Everything ends when standard input is closed: a test that dies leaves nothing behind.
set -eu

if [ "${TAPFER_INSIDE:-}" != yes ]; then
    TAPFER_INSIDE=yes exec unshare --net --mount --pid --fork --kill-child --propagation private \
        "$0" "$@"
fi

directory=$1
shift
IFS= read -r share
ip link set lo up
mkdir -p /run/pcscd
mount --bind "$directory" /run/pcscd
pcscd --foreground --error >"$directory/pcscd.log" 2>&1 &
printf '%s\n' "$share" | "$@" >"$directory/card.log" 2>&1 &
if IFS= read -r share; then
    printf '%s\n' "$share" | "$1" card serve --json --share-from-stdin --vpcd 127.0.0.1:35964 \
        --wallet "$TAPFER_SECOND_WALLET" >"$directory/second.log" 2>&1 &
fi
# The first process of the namespace: when it ends, everything in the namespace is ended.
cat >/dev/null
