"""The smoke test of the lab on virtual machines. Runs on the host, with nothing but Python's own library, ssh and vagrant."""
