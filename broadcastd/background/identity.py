"""Whose rights the daemon keeps."""

import grp
import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from broadcastd.errors import CannotStartError


@dataclass(frozen=True, slots=True)
class Identity:
    """A user and a group of this machine."""

    name: str
    home: str
    uid: int
    gid: int

    def assume(self) -> None:
        """Be that user from now on, for good. Raises CannotStartError."""
        try:
            os.initgroups(self.name, self.gid)
            os.setgid(self.gid)
            os.setuid(self.uid)
        except OSError as error:
            raise CannotStartError(
                f"the rights of {self.name} cannot be taken on: {error.strerror}"
            ) from error
        for program in (os.__file__, __file__):
            if not os.access(program, os.R_OK):
                raise CannotStartError(
                    f"{self.name} cannot read the program ({program}): install it where everybody may look"
                )
        os.environ.update(HOME=self.home, USER=self.name, LOGNAME=self.name)
        os.environ.pop("XDG_STATE_HOME", None)

    def own(self, folder: Path) -> None:
        """Make a folder that is missing, in one that is there, and give it to that user."""
        try:
            if folder.parent.is_dir() and not folder.exists():
                folder.mkdir(mode=0o750)
                os.chown(folder, self.uid, self.gid, follow_symlinks=False)
        except OSError as error:
            raise CannotStartError(f"the folder {folder} cannot be made: {error.strerror}") from error


def identity_of(user: str, group: str) -> Identity | None:
    """Who is meant: names or numbers; None: whoever starts it. Raises CannotStartError."""
    if not user and not group:
        return None
    try:
        found = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user or _own_name())
    except KeyError:
        raise CannotStartError(f"there is no user {user!r} on this machine (background.user)") from None
    try:
        gid = found.pw_gid if not group else _gid(group)
    except KeyError:
        raise CannotStartError(f"there is no group {group!r} on this machine (background.group)") from None
    if os.geteuid() != 0 and (found.pw_uid, gid) != (os.geteuid(), os.getegid()):
        raise CannotStartError("only root can start it as another user or group (background.user, --user)")
    if os.geteuid() != 0:
        return None
    return Identity(found.pw_name, found.pw_dir, found.pw_uid, gid)


def _own_name() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def _gid(group: str) -> int:
    return grp.getgrgid(int(group)).gr_gid if group.isdecimal() else grp.getgrnam(group).gr_gid
