"""The runner of the client matrix; see ../README.md."""
