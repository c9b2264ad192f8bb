"""What a parameter file costs, before any work: counted parameters, operations and bytes, and named assumptions."""
