mod log_model;
