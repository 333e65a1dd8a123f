"""Watch files by polling: stat(2) all files at intervals, and compare.

Polling is for directories whose files are changed on another machine, such as network file systems and directories
that a container shares with its host: inotify reports only changes made on this machine.
"""

import os
from collections.abc import Iterable

from asgireload.development.watch.changes import Changes
from asgireload.development.watch.filters import PathFilter

Picture = dict[str, tuple[int, int, int, int]]
"""Path to mtime and ctime in nanoseconds, size, and inode number."""

REMOTE_TYPES = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "vboxsf", "drvfs", "fakeowner", "prl_fs"}
)
"""File system types in /proc/self/mountinfo that other machines write to; `fuse.` types are added."""


def take_picture(directories: Iterable[str], chosen: PathFilter, others: Iterable[str]) -> Picture:
    """Return the state of the accepted files below `directories` and of the files `others`.

    Files that cannot be read are left out. The call blocks on the file system: call it in a thread.
    """
    picture: Picture = {}
    for path in others:
        add_to_picture(picture, path)
    for top in directories:
        for parent, names, files in os.walk(top):
            names[:] = [
                name
                for name in names
                if chosen.enters(os.path.join(parent, name))
                and not os.path.exists(os.path.join(parent, name, "pyvenv.cfg"))
            ]
            for name in files:
                path = os.path.join(parent, name)
                if chosen.accepts(path):
                    add_to_picture(picture, path)
    return picture


def compare(before: Picture, after: Picture) -> Changes:
    """Return the changes between two pictures."""
    return Changes(
        arrived=frozenset(path for path, seen in after.items() if before.get(path) != seen),
        vanished=frozenset(before.keys() - after.keys()),
    )


def tell_environment(
    changes: Changes, chosen: PathFilter, environment_file: str | None, project_file: str | None
) -> Changes:
    """Return `changes` with `is_environment` set when one of the two files has changed.

    A change of `project_file` asks for a reload only when the filter `chosen` accepts the file.
    """
    if project_file is not None and project_file in changes.paths:
        is_quiet = not chosen.accepts(project_file)
        changes = Changes(is_environment=True) | changes.without(
            lambda path: is_quiet and path == project_file
        )
    if environment_file in changes.paths:
        changes |= Changes(is_environment=True)
    return changes


def is_remote(directory: str, mountinfo: str) -> bool:
    """Return whether a resolved directory is on a file system that other machines write to.

    `mountinfo`: the text of /proc/self/mountinfo, proc_pid_mountinfo(5).
    """
    longest, kind = "", ""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        mount = fields[4].encode().decode("unicode_escape")  # blanks are written \040
        is_above = directory == mount or directory.startswith(mount.rstrip("/") + "/")
        if is_above and len(mount) >= len(longest):
            longest, kind = mount, after.split()[0]
    return kind in REMOTE_TYPES or kind.startswith("fuse.")


def add_to_picture(picture: Picture, path: str) -> None:
    """Add the state of one file to `picture`, unless the file cannot be read."""
    try:
        status = os.stat(path)
    except OSError:
        return
    picture[path] = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
