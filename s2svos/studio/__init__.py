"""The page on which a first mask is made, followed, corrected and kept."""
