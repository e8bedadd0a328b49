a = "# no comment"  # a comment
b = '# no comment'  # it's "one"
c = """
# no comment
  # nor this
"""  # a comment
d = '''it's # no comment'''
e = r"\"# a backslash protects the quote in a raw string too"  # a comment
f = r"\\"  # a comment
g = "\\"  # an escaped backslash, then the end
h = "\
# no comment, the string goes on"
i = b"#" + rb'#' + f"#{a}#" + u"#"
j = ""  # empty
k = """"# a quote first"""  # and none last
l = '''\'''# no comment'''
