package clusterpool

// Prepared returns cfg as New has it.
func Prepared(cfg Config) (Config, error) {
	err := cfg.prepare()
	return cfg, err
}

// PreparedServe returns cfg as Serve has it.
func PreparedServe(cfg ServeConfig) (ServeConfig, error) {
	err := cfg.prepare()
	return cfg, err
}
