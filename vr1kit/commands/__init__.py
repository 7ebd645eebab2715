"""The subcommands of `vr1kit`, by what they act on."""
