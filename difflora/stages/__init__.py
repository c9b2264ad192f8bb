"""The chain's six steps, identities to register: each reads its parameters and writes its outputs."""
