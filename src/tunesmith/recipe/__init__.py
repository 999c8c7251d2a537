"""What the user asks for: the recipe, its files, its checks and the values that "auto" stands for."""
