#!/bin/sh
# Copy the images of this checkout to another one, and check them there.
#
#   scripts/setup/copy_images.sh HOST:FOLDER        or FOLDER on this machine
set -eu
to=${1:-}
if [ -z "$to" ]; then
    echo "error: no place to copy to, expected make copy-images TO=HOST:FOLDER (a checkout of the same commit)" >&2
    exit 2
fi
command -v rsync > /dev/null || {
    echo "error: rsync: not found; copy resources/images as a whole, and there: make check-images" >&2
    exit 2
}
folder=${to#*:}
# What runs in the other checkout's folder.
there() {
    case $to in
        *:*) ssh "${to%%:*}" "cd '$folder' && $1" ;;
        *) (cd "$folder" && sh -c "$1") ;;
    esac
}
there 'test -f Makefile' || {
    echo "error: $to: no checkout there (no Makefile)" >&2
    exit 2
}
there 'mkdir -p resources/images'
# Images have their digest in their name: one that is there with the same size and time is not sent again.
rsync --archive --partial --exclude '.*' resources/images/ "$to/resources/images/"
there 'make --no-print-directory check-images'
