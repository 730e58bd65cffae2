from hypothesis import settings

settings.register_profile("storage", derandomize=True, database=None, deadline=None, max_examples=40)
settings.load_profile("storage")
