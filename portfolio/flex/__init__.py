"""Flex statements: read IB's own record of the day and compare the books with it, a day later."""
