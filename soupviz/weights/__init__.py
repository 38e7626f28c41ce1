"""From files to ingredients, and back: containers, layouts, names, what lies beside, and writing."""
