"""The settings of a daemon in the background (`broadcastd start`)."""

from pydantic import Field

from broadcastd.section import Section


class BackgroundSettings(Section):
    """Relative paths are the settings file's neighbours."""

    pid_file: str = Field("broadcastd.pid", min_length=1)
    log_file: str = Field("broadcastd.log", min_length=1)
    user: str = ""
    """Whose rights the daemon keeps: a name or a number; empty: those of whoever starts it."""
    group: str = ""
    """Empty: the user's own."""
    umask: str = Field("027", pattern=r"^0?[0-7]{3}$")
    working_dir: str = Field("/", min_length=1)

    @property
    def umask_bits(self) -> int:
        """`umask` as a number."""
        return int(self.umask, 8)
