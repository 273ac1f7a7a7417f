"""Where the windows of a job run; each module defines ``ENGINE``."""
