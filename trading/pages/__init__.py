"""The pages about the books: one module for each, its reading and its rendering; ``actions`` holds what they post."""
