#!/bin/sh
# Runs a command where there is no network but loopback, where the system lets us make such a place:
# servers of Beam's runners listen on every address, and run what they are sent.
set -eu
inside='ip link set lo up && exec "$@"'
for private in 'unshare -n' 'unshare -rn'; do
  if $private sh -c "$inside" sh true 2>/dev/null; then
    exec $private sh -c "$inside" sh "$@"
  fi
done
exec "$@"
