"""What several rings of tests use: the product as processes, stock kubectls, programs built from Go modules."""
