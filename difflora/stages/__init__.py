"""The chain's six steps: identities, corpus, lae, dit, evaluate, register; each reads its parameters and writes its
outputs."""
