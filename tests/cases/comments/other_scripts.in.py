имя = "значение"  # комментарий
変数 = '文字列 # まだ文字列'  # コメント
line = "a b"  # a line separator is no newline of Python's
next = ""
