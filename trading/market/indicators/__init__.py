"""Indicators of sessions and of the days before: TA-Lib's formulas where its definition is meant, MATS' own elsewhere.

``registry`` lists them, ``indicator`` runs one over bars; a formula is written once and computed both ways.
"""
