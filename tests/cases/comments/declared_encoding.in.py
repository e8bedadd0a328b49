# vim: set fileencoding=latin-1 :
name = 'Café'  # é
