a = "# no comment"
b = '# no comment'
c = """
# no comment
  # nor this
"""
d = '''it's # no comment'''
e = r"\"# a backslash protects the quote in a raw string too"
f = r"\\"
g = "\\"
h = "\
# no comment, the string goes on"
i = b"#" + rb'#' + f"#{a}#" + u"#"
j = ""
k = """"# a quote first"""
l = '''\'''# no comment'''
