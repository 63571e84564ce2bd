"""The subcommands of `learned-opt`, one a file."""
