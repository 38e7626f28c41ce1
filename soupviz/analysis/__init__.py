"""What explains a soup: distances and barriers, curves and planes, layers, examples; and is it really better?"""
