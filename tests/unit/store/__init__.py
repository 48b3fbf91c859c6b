"""Examples of each rule of the machine: read them next to `store/memory/machine/`."""
