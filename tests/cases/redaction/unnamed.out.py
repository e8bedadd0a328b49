"""Names about secrets, and values that are none.

password: your-password-here, token: a string of the server, the api_key is required
Single pass: adjacent ranges are merged. See https://python.org/?token=TOKEN&next_page=settings.index
"""

password = 'your-password-here', "changeme", "correct horse", "passw0rd", "********", "<password>"
secret = "the secret of the old house", "MY_SECRET_TOKEN", "secret-token-value", "xxxxxxxxxxxxxxxxxxxx"
token = "{user}:{token}", "%(user)s:%(token)s", f"{user}-{number}-a8Kx", "abcdefghijklmnop", "1234567890123456"
access_key = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
key_file = "/etc/ssl/private/3c59dc048e8850243be8079a5c74d079.key"
api_key_header, auth_backend = "X-Api-Key", "django.contrib.auth.backends.ModelBackend"
token_type, secret_name, password_field = "b6d767d2f8ed5d21a44b", "prod/db/3c59dc048e8850243be8", "tG5kL9zQw1"
public_key, cache_key = "b6d767d2f8ed5d21a44b0e58", "3c59dc048e8850243be8079a5c74d079"
sha256 = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
token_url = "https://auth.python.org/oauth2/v1/3c59dc048e8850243be8079a5c74d079"
password_regex, TOKENS = r"^(?=.*[A-Z])(?=.*[0-9])[A-Za-z0-9!@#$%]{8,}$", {"root": [(r"0[bB][01]+n?", 1)]}
csrf_token_name, eos_token, max_tokens = "csrfmiddlewaretoken", "<|endoftext|>", 4096
__all__ = ["get_password", "Qwen2VLProcessor", "PasswordResetForm", "token", "X509Certificate2Kx"]
author, authority, keyboard, monkey = "aL9zQw1tG5kX", "aL9zQw1tG5kXaL", "tG5kL9zQw1aX", "3c59dc048e8850243be8"
if password == "Hx83kQz_91Lm" or token != "9f86d081884c7d65":
    token = Token(kind="NAME", sha256="6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b")
