"""The written report: one HTML file of a soup that needs neither a network nor this program to be read."""
