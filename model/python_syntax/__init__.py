"""Is this text still the beginning of a Python program? The field calls this grammar-constrained decoding.

Comes in: a text, and what is known of its beginning. Goes out: yes or no, and a short ending that completes
it. prefix_parser.py refuses single pieces of text while they are written, by grammar.py and lexer.py;
judge.py asks CPython about whole lines, through compiler.py; endings.py completes what breaks off. lark's
interactive parser would not do: it knows whole tokens only, takes an f-string for one, allows "def f(a, a)".
Read prefix_parser.py first, then judge.py.
"""
