from toy_training import one_thread, quick, thin_backbones, toy_root, toy_table, training_cache  # noqa: F401
