name = 'Café'
