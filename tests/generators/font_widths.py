"""Advances of DejaVu Sans for src/plot/font.rs, by fontTools: python font_widths.py DejaVuSans.ttf DejaVuSans-Bold.ttf"""

import sys

from fontTools.ttLib import TTFont

fonts = [TTFont(path) for path in sys.argv[1:3]]
for letter in "aW 0éλ≤":
    print(repr(letter), *[font["hmtx"][font.getBestCmap()[ord(letter)]][0] for font in fonts])
