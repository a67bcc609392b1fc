#!/bin/sh
# stage.sh ROOM PACKAGES COMMAND...: runs COMMAND in a view of this system that is its own. The unpacked PACKAGES, folders with a space
# between them, look as if they were installed, and what is written anywhere but in the current folder is gone afterwards. ROOM is an
# empty folder. Needs root, and a mount namespace that unshare(1) made.
set -eu
room=$1 packages=$2
shift 2
mount -t tmpfs stage "$room"
mkdir "$room/upper" "$room/work" "$room/root"
for package in $packages; do
  for part in etc usr var; do
    [ ! -e "$package/$part" ] || cp -a "$package/$part" "$room/upper"
  done
done
# /dev and /proc are mounts of their own, and overlayfs looks below none.
mount -t overlay stage -o "lowerdir=/,upperdir=$room/upper,workdir=$room/work" "$room/root"
mount --rbind /dev "$room/root/dev"
mount -t proc proc "$room/root/proc"
mkdir -p "$room/root$PWD"
mount --bind "$PWD" "$room/root$PWD"
exec chroot "$room/root" env --chdir="$PWD" "$@"
