"""Texts set into lines for the screen: Markdown parsed, wrapped as Chinese and English want it, and laid out.

No widgets here. A widget that can draw a line can draw any; so a complete answer is one widget, however many
lists, tables and code blocks it holds, and costs what one costs.
"""
