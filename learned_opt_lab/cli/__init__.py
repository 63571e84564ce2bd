"""The `learned-opt` command, one file a subcommand."""
