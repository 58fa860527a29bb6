#!/bin/sh
# Boots a separate systemd, PID 1 of new namespaces, on the files of this machine or of ROOT. It can't change either.
#
#   boot.sh FOLDER CGROUP [ROOT]
#
# Its writes to /etc, /usr and /var are stored in FOLDER, and are visible again after the next boot from the same folder.
# CGROUP is an empty control group (version 2), which becomes the root of the groups that it sees.
set -eu

if [ "${BOX_STAGE:-}" != inside ]; then
    # The group is joined before the namespaces are created, because the control group at that time becomes their root.
    echo $$ >"$2/cgroup.procs"
    BOX_STAGE=inside exec unshare --mount --pid --fork --kill-child --uts --ipc --cgroup -- /bin/sh "$0" "$@"
fi

folder=$1
root=${3:-}
mount --make-rprivate /

# Redirects writes into the folder: layer NAME LOWER MOUNT_POINT
layer() {
    mkdir -p "$folder/$1/upper" "$folder/$1/work"
    mount -t overlay overlay -o "lowerdir=$2,upperdir=$folder/$1/upper,workdir=$folder/$1/work" "$3"
}

if [ -n "$root" ]; then
    layer root "$root" /mnt
    mount --rbind /dev /mnt/dev
    mount --rbind /sys /mnt/sys
    mount -t proc proc /mnt/proc
    cd /mnt
    pivot_root . mnt
    umount -l /mnt
else
    # A mount point for the folder, which would be hidden when a new /tmp is mounted over it.
    mount -t tmpfs -o mode=0755 tmpfs /mnt
    mkdir /mnt/box
    mount --bind "$folder" /mnt/box
    folder=/mnt/box
    for part in etc usr var; do
        layer "$part" "/$part" "/$part"
    done
    mount -o remount,bind,ro /
    mount -t proc proc /proc
fi
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -p /run/lock /run/dbus /run/systemd/system
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup

# A separate machine: a new machine id, and none of this machine's services.
if [ ! -e /etc/booted ]; then
    rm -rf /etc/systemd/system/*.wants /etc/rc?.d
    systemd-id128 new >/etc/machine-id
    : >/etc/booted
fi
# Hardware, terminals, time and users are managed by the host.
for unit in systemd-udevd.service systemd-udev-trigger.service systemd-tmpfiles-setup-dev.service \
    systemd-tmpfiles-setup.service systemd-modules-load.service systemd-sysctl.service systemd-random-seed.service \
    systemd-remount-fs.service systemd-binfmt.service systemd-logind.service systemd-timesyncd.service \
    systemd-update-utmp.service systemd-network-generator.service systemd-sysusers.service \
    systemd-user-sessions.service getty.target console-getty.service sys-kernel-debug.mount \
    sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount dev-hugepages.mount \
    dev-mqueue.mount proc-sys-fs-binfmt_misc.automount; do
    ln -sf /dev/null "/run/systemd/system/$unit"
done

# A helper process mounts the credentials, and the service sees them only if mounts are shared.
mount --make-rshared /
exec env -i container=box PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=multi-user.target --log-target=journal --show-status=false
