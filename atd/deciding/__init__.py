"""A new threshold for a detector that is trained already, from images that a person has."""
