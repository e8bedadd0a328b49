a = f"{x["#"]}"
b = f"{f"{"#"}"}"
c = f"{
    x  # inside: it stays, since an f-string is not touched
}"
d = f"{{"
e = f"""{y:{"#"}}"""
