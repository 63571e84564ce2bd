"""Several processes of one run: how they meet, trust each other and stay in step."""
