x = 1  # windows
# old macy = '''a
bc'''
z = 3