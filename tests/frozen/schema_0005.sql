BEGIN TRANSACTION;
CREATE TABLE accuracy_sample (
	id INTEGER NOT NULL, 
	space VARCHAR NOT NULL, 
	genome VARCHAR NOT NULL, 
	dataset VARCHAR NOT NULL, 
	recipe VARCHAR NOT NULL, 
	seed INTEGER NOT NULL, 
	accuracy_percent FLOAT, 
	failure TEXT NOT NULL, 
	cost_s FLOAT, 
	source VARCHAR NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_accuracy_sample PRIMARY KEY (id), 
	CONSTRAINT uq_accuracy_sample_space_genome_dataset_recipe_seed UNIQUE (space, genome, dataset, recipe, seed)
);
INSERT INTO "accuracy_sample" VALUES(1,'macro','1-2-0-1-0-0-2-1','cifar10','nas-bench-macro',0,92.5,'',NULL,'frozen',1.0);
INSERT INTO "accuracy_sample" VALUES(2,'macro','1-2-0-1-0-0-2-2','cifar10','nas-bench-macro',0,NULL,'the training failed',3.5,'frozen',2.0);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0005');
CREATE TABLE calibration (
	id INTEGER NOT NULL, 
	target_id INTEGER NOT NULL, 
	family VARCHAR NOT NULL, 
	created_at FLOAT NOT NULL, 
	value JSON NOT NULL, 
	CONSTRAINT pk_calibration PRIMARY KEY (id), 
	CONSTRAINT fk_calibration_target_id FOREIGN KEY(target_id) REFERENCES target (id)
);
CREATE TABLE device (
	id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	model VARCHAR NOT NULL, 
	facts JSON NOT NULL, 
	CONSTRAINT pk_device PRIMARY KEY (id), 
	CONSTRAINT uq_device_name UNIQUE (name)
);
INSERT INTO "device" VALUES(1,'local-cpu','a CPU','{"cpus": [0, 1]}');
CREATE TABLE job (
	id INTEGER NOT NULL, 
	uid VARCHAR(32) NOT NULL, 
	kind VARCHAR NOT NULL, 
	request JSON NOT NULL, 
	arguments JSON NOT NULL, 
	state VARCHAR NOT NULL, 
	created_at FLOAT NOT NULL, 
	started_at FLOAT, 
	ended_at FLOAT, 
	heartbeat_at FLOAT, 
	attempts INTEGER NOT NULL, 
	runner VARCHAR NOT NULL, 
	progress JSON, 
	result JSON, 
	error TEXT NOT NULL, 
	exit_status INTEGER, 
	cancel_asked BOOLEAN NOT NULL, 
	revision INTEGER NOT NULL, 
	made_by VARCHAR NOT NULL, 
	CONSTRAINT pk_job PRIMARY KEY (id), 
	CONSTRAINT uq_job_uid UNIQUE (uid)
);
INSERT INTO "job" VALUES(1,'0123456789abcdef0123456789abcdef','search','{"space": "mbconv"}','["search", "--space", "mbconv"]','done',1.0,2.0,3.0,2.5,1,'computer:1:boot:0','{"stage": "evolution", "done": 3, "total": 3, "note": ""}','{"front": 2}','',0,0,5,'laptop');
INSERT INTO "job" VALUES(2,'fedcba9876543210fedcba9876543210','profile','{"device": "local-cpu"}','["profile"]','queued',4.0,NULL,NULL,NULL,0,'',NULL,NULL,'',NULL,0,1,'laptop');
CREATE TABLE lease (
	id INTEGER NOT NULL, 
	unit VARCHAR NOT NULL, 
	owner VARCHAR NOT NULL, 
	acquired_at FLOAT NOT NULL, 
	heartbeat_at FLOAT NOT NULL, 
	CONSTRAINT pk_lease PRIMARY KEY (id), 
	CONSTRAINT uq_lease_unit UNIQUE (unit)
);
CREATE TABLE lowering (
	id INTEGER NOT NULL, 
	target_id INTEGER NOT NULL, 
	operator_id INTEGER NOT NULL, 
	context VARCHAR NOT NULL, 
	natives JSON NOT NULL, 
	output_form VARCHAR NOT NULL, 
	input_forms JSON NOT NULL, 
	CONSTRAINT pk_lowering PRIMARY KEY (id), 
	CONSTRAINT fk_lowering_operator_id FOREIGN KEY(operator_id) REFERENCES operator (id), 
	CONSTRAINT fk_lowering_target_id FOREIGN KEY(target_id) REFERENCES target (id), 
	CONSTRAINT uq_lowering_target_id_operator_id_context UNIQUE (target_id, operator_id, context)
);
INSERT INTO "lowering" VALUES(1,1,3,'*','["conv2d(1x8x4x4;kernel=1x1;out_channels=8;float32)"]','plain','["plain"]');
INSERT INTO "lowering" VALUES(2,1,2,'*','["add(1x8x4x4|1x8x4x4;float32)"]','plain','["plain", "plain"]');
INSERT INTO "lowering" VALUES(3,1,1,'*','["relu(1x8x4x4;float32)"]','plain','["plain"]');
CREATE TABLE measurement (
	id INTEGER NOT NULL, 
	target_id INTEGER NOT NULL, 
	operator_id INTEGER NOT NULL, 
	session_id INTEGER NOT NULL, 
	samples BLOB NOT NULL, 
	loops INTEGER NOT NULL, 
	overhead_ns FLOAT NOT NULL, 
	rejected INTEGER NOT NULL, 
	doubts VARCHAR NOT NULL, 
	clean BOOLEAN NOT NULL, 
	latency_ns FLOAT NOT NULL, 
	mad_ns FLOAT NOT NULL, 
	count INTEGER NOT NULL, 
	energy_uj FLOAT, summary JSON, 
	CONSTRAINT pk_measurement PRIMARY KEY (id), 
	CONSTRAINT fk_measurement_operator_id FOREIGN KEY(operator_id) REFERENCES operator (id), 
	CONSTRAINT fk_measurement_session_id FOREIGN KEY(session_id) REFERENCES session (id), 
	CONSTRAINT fk_measurement_target_id FOREIGN KEY(target_id) REFERENCES target (id)
);
INSERT INTO "measurement" VALUES(1,1,3,1,X'0600030002000300020003000200000000000000803E000000000000803E000000000000803EE80300000000000002000001000200000005000000010002000000050000000100020000000500',1,100.0,1,'',1,900.0,1.0,15,NULL,NULL);
INSERT INTO "measurement" VALUES(2,1,2,1,X'0600030002000300020003000200000000000000803E000000000000803E000000000000803EE80300000000000002000001000200000005000000010002000000050000000100020000000500',1,100.0,1,'',1,900.0,1.0,15,NULL,NULL);
INSERT INTO "measurement" VALUES(3,1,1,1,X'0600030002000300020003000200000000000000803E000000000000803E000000000000803EE80300000000000002000001000200000005000000010002000000050000000100020000000500',1,100.0,1,'',1,900.0,1.0,15,NULL,NULL);
CREATE TABLE network (
	id INTEGER NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	name VARCHAR NOT NULL, 
	space VARCHAR NOT NULL, 
	graph JSON NOT NULL, 
	CONSTRAINT pk_network PRIMARY KEY (id), 
	CONSTRAINT uq_network_digest UNIQUE (digest)
);
CREATE TABLE network_measurement (
	id INTEGER NOT NULL, 
	target_id INTEGER NOT NULL, 
	network_id INTEGER NOT NULL, 
	session_id INTEGER NOT NULL, 
	samples BLOB NOT NULL, 
	loops INTEGER NOT NULL, 
	overhead_ns FLOAT NOT NULL, 
	doubts VARCHAR NOT NULL, 
	latency_ns FLOAT NOT NULL, summary JSON, 
	CONSTRAINT pk_network_measurement PRIMARY KEY (id), 
	CONSTRAINT fk_network_measurement_network_id FOREIGN KEY(network_id) REFERENCES network (id), 
	CONSTRAINT fk_network_measurement_session_id FOREIGN KEY(session_id) REFERENCES session (id), 
	CONSTRAINT fk_network_measurement_target_id FOREIGN KEY(target_id) REFERENCES target (id)
);
CREATE TABLE operator (
	id INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	weight_bytes INTEGER NOT NULL, 
	CONSTRAINT pk_operator PRIMARY KEY (id), 
	CONSTRAINT uq_operator_key UNIQUE ("key")
);
INSERT INTO "operator" VALUES(1,'relu(1x8x4x4;float32)',32);
INSERT INTO "operator" VALUES(2,'add(1x8x4x4|1x8x4x4;float32)',32);
INSERT INTO "operator" VALUES(3,'conv2d(1x8x4x4;kernel=1x1;out_channels=8;float32)',32);
CREATE TABLE part (
	target_id INTEGER NOT NULL, 
	native TEXT NOT NULL, 
	operator_id INTEGER NOT NULL, 
	context VARCHAR NOT NULL, 
	CONSTRAINT pk_part PRIMARY KEY (target_id, native, operator_id, context), 
	CONSTRAINT fk_part_target_id FOREIGN KEY(target_id) REFERENCES target (id), 
	CONSTRAINT fk_part_operator_id FOREIGN KEY(operator_id) REFERENCES operator (id)
)
 WITHOUT ROWID

;
CREATE TABLE price (
	target_id INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	context VARCHAR NOT NULL, 
	natives TEXT NOT NULL, 
	latency_ns FLOAT NOT NULL, 
	mad_ns FLOAT NOT NULL, 
	samples INTEGER NOT NULL, 
	passes INTEGER NOT NULL, 
	energy_uj FLOAT, 
	doubts VARCHAR NOT NULL, 
	clean BOOLEAN NOT NULL, 
	measured_at FLOAT, 
	CONSTRAINT pk_price PRIMARY KEY (target_id, "key", context), 
	CONSTRAINT fk_price_target_id FOREIGN KEY(target_id) REFERENCES target (id)
)
 WITHOUT ROWID

;
INSERT INTO "price" VALUES(1,'add(1x8x4x4|1x8x4x4;float32)','*','',900.0,1.0,15,1,NULL,'',1,1.0);
INSERT INTO "price" VALUES(1,'conv2d(1x8x4x4;kernel=1x1;out_channels=8;float32)','*','',900.0,1.0,15,1,NULL,'',1,1.0);
INSERT INTO "price" VALUES(1,'relu(1x8x4x4;float32)','*','',900.0,1.0,15,1,NULL,'',1,1.0);
CREATE TABLE quarantine (
	id INTEGER NOT NULL, 
	target_id INTEGER NOT NULL, 
	operator_id INTEGER NOT NULL, 
	reason VARCHAR NOT NULL, 
	message TEXT NOT NULL, 
	CONSTRAINT pk_quarantine PRIMARY KEY (id), 
	CONSTRAINT fk_quarantine_operator_id FOREIGN KEY(operator_id) REFERENCES operator (id), 
	CONSTRAINT fk_quarantine_target_id FOREIGN KEY(target_id) REFERENCES target (id), 
	CONSTRAINT uq_quarantine_target_id_operator_id UNIQUE (target_id, operator_id)
);
CREATE TABLE session (
	id INTEGER NOT NULL, 
	target_id INTEGER NOT NULL, 
	batch VARCHAR(36) NOT NULL, 
	started_at FLOAT NOT NULL, 
	agent_version VARCHAR NOT NULL, 
	process VARCHAR NOT NULL, 
	"before" JSON NOT NULL, 
	"after" JSON NOT NULL, 
	sentinel_ns JSON NOT NULL, 
	CONSTRAINT pk_session PRIMARY KEY (id), 
	CONSTRAINT fk_session_target_id FOREIGN KEY(target_id) REFERENCES target (id), 
	CONSTRAINT uq_session_batch UNIQUE (batch)
);
INSERT INTO "session" VALUES(1,1,'batch 0',1.0,'1','42','{"load1": 0.5}','{"load1": 0.7}','[[0.0, 1000], [0.5, 1100]]');
CREATE TABLE staircase (
	id INTEGER NOT NULL, 
	target_id INTEGER NOT NULL, 
	op_type VARCHAR NOT NULL, 
	axis VARCHAR NOT NULL, 
	step INTEGER NOT NULL, 
	CONSTRAINT pk_staircase PRIMARY KEY (id), 
	CONSTRAINT fk_staircase_target_id FOREIGN KEY(target_id) REFERENCES target (id), 
	CONSTRAINT uq_staircase_target_id_op_type_axis UNIQUE (target_id, op_type, axis)
);
CREATE TABLE target (
	id INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	name TEXT NOT NULL, 
	value JSON NOT NULL, 
	CONSTRAINT pk_target PRIMARY KEY (id), 
	CONSTRAINT uq_target_key UNIQUE ("key")
);
INSERT INTO "target" VALUES(1,'local-cpu/litert-2.3.0/cpu/float32/t1/cpus=1/avx2/measured','local-cpu/litert-2.3.0/cpu/float32/t1','{"device": "local-cpu", "engine": "litert", "engine_version": "2.3.0", "accelerator": "cpu", "dtype": "float32", "threads": 1, "cpus": [1], "isa": "avx2", "options": [], "source": "measured"}');
CREATE TABLE token (
	id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	scopes VARCHAR NOT NULL, 
	created_at FLOAT NOT NULL, 
	revoked_at FLOAT, 
	last_used_at FLOAT, 
	CONSTRAINT pk_token PRIMARY KEY (id), 
	CONSTRAINT uq_token_name UNIQUE (name), 
	CONSTRAINT uq_token_digest UNIQUE (digest)
);
INSERT INTO "token" VALUES(1,'laptop','42eeb55940040af51baf329eb9ca158cf728a448e97bdcc01a1cae7955a1332f','read write',1.0,NULL,2.0);
INSERT INTO "token" VALUES(2,'lost','83f879df72fe48d5d6191adb467cb301f07fe28722e03edc1031a2d0969025a5','read',1.0,3.0,NULL);
CREATE INDEX ix_target_name ON target (name);
CREATE INDEX ix_measurement_target_id_operator_id ON measurement (target_id, operator_id);
CREATE INDEX ix_network_measurement_target_id_network_id ON network_measurement (target_id, network_id);
CREATE INDEX ix_job_kind_state ON job (kind, state);
CREATE INDEX ix_price_doubtful ON price (target_id, "key") WHERE natives = '' AND clean = 0;
CREATE INDEX ix_session_target_id_id ON session (target_id, id, started_at);
CREATE INDEX ix_lowering_target_id_id ON lowering (target_id, id);
COMMIT;
