a = f"{x["#"]}"  # a comment
b = f"{f"{"#"}"}"
c = f"{
    x  # inside: it stays, since an f-string is not touched
}"
d = f"{{"  # balanced
e = f"""{y:{"#"}}"""  # format
