// JDBC: what a Java application and Hibernate ask of the driver, with statements
// that the server prepares from their first use on.
import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.sql.*;
import java.time.LocalDate;
import java.time.OffsetDateTime;
import java.util.*;
import org.postgresql.PGConnection;
import org.postgresql.util.PGobject;

public class JdbcClient {
	static final String HANAKO = "佐藤 花子", TARO = "佐藤 太郎", NOBODY = "高橋 一郎";
	static final LocalDate BORN = LocalDate.of(1950, 2, 28), LEAP = LocalDate.of(2024, 2, 29);
	static final OffsetDateTime SEEN = OffsetDateTime.parse("2026-03-01T09:30:00Z");
	static final byte[] PHOTO = {(byte) 0x89, 'P', 0, (byte) 0xff};
	static final String COLUMNS =
		"chart_no, insurance_no, name, birth_date, seen_at, weight, visits, smoker, record, photo";
	static final String INSERT = "INSERT INTO patient (" + COLUMNS + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
	static final String SELECT = "SELECT " + COLUMNS + " FROM patient WHERE ";
	static final String SHORT = "INSERT INTO patient (chart_no, name, birth_date) VALUES (?, ?, ?)";

	static Connection connection;

	interface Work { Object run() throws Exception; }

	static Connection connect(String user, String... more) throws SQLException {
		var properties = new Properties();
		properties.putAll(Map.of("user", user, "password", "clients", "prepareThreshold", "1",
			"reWriteBatchedInserts", "true"));
		for (int i = 0; i < more.length; i += 2)
			properties.put(more[i], more[i + 1]);
		var env = System.getenv();
		return DriverManager.getConnection("jdbc:postgresql://127.0.0.1:" + env.get("PGPORT")
			+ "/" + env.get("PGDATABASE"), properties);
	}

	static void same(Object found, Object expected) {
		if (!Objects.deepEquals(found, expected))
			throw new AssertionError(found + " is not " + expected);
	}

	static void fails(String sqlState, Work work) throws Exception {
		try {
			work.run();
		} catch (SQLException error) {
			same(error.getSQLState(), sqlState);
			return;
		}
		throw new AssertionError("no error where " + sqlState + " was expected");
	}

	static PreparedStatement prepare(String query, Object... parameters) throws SQLException {
		var statement = connection.prepareStatement(query);
		for (int i = 0; i < parameters.length; i++)
			if (parameters[i] instanceof String text)
				statement.setString(i + 1, text);
			else if (parameters[i] instanceof java.sql.Date date)
				statement.setDate(i + 1, date);
			else
				statement.setObject(i + 1, parameters[i]);
		return statement;
	}

	static int update(String query, Object... parameters) throws SQLException {
		try (var statement = prepare(query, parameters)) {
			return statement.executeUpdate();
		}
	}

	/** The first column of all rows. */
	static List<Object> column(String query, Object... parameters) throws SQLException {
		var values = new ArrayList<>();
		try (var statement = prepare(query, parameters); var rows = statement.executeQuery()) {
			while (rows.next())
				values.add(rows.getObject(1));
		}
		return values;
	}

	static List<Object> names(String condition, Object... parameters) throws SQLException {
		return column("SELECT name FROM patient WHERE " + condition, parameters);
	}

	static PGobject json(String text) throws SQLException {
		var value = new PGobject();
		value.setType("jsonb");
		value.setValue(text);
		return value;
	}

	static void checkTypes() throws Exception {
		update(INSERT, "H-1", "0612", HANAKO, BORN, SEEN, new BigDecimal("52.40"), 3_000_000_000L, false,
			json("{\"n\": 1.5, \"薬\": [\"アスピリン\", null]}"), PHOTO);
		update(INSERT, "H-2", "0613", TARO, java.sql.Date.valueOf(LEAP), Timestamp.from(SEEN.toInstant()),
			new BigDecimal("-0.001"), -1, true, json("[]"), new byte[0]);
		try (var statement = connection.prepareStatement(INSERT)) {
			int[] types = {Types.VARCHAR, Types.VARCHAR, Types.VARCHAR, Types.DATE, Types.TIMESTAMP_WITH_TIMEZONE,
				Types.NUMERIC, Types.BIGINT, Types.BOOLEAN, Types.OTHER, Types.BINARY};
			for (int i = 0; i < types.length; i++)
				statement.setNull(i + 1, types[i]);
			statement.setString(1, "H-3");
			statement.setString(3, NOBODY);
			same(statement.executeUpdate(), 1);
		}
		// From the first run in text, then in binary once the server has prepared it.
		try (var statement = prepare(SELECT + "name = ?", HANAKO)) {
			for (int run = 0; run < 7; run++)
				checkRow(statement);
		}
		try (var statement = prepare(SELECT + "name = ?", NOBODY); var row = statement.executeQuery()) {
			same(row.next(), true);
			for (int i = 4; i <= 10; i++)
				same(row.getObject(i), null);
			same(row.getObject(4, LocalDate.class), null);
			same(row.getLong(7) == 0 && row.wasNull(), true);
		}
	}

	static void checkRow(PreparedStatement statement) throws SQLException {
		try (var row = statement.executeQuery()) {
			var meta = row.getMetaData();
			String[] classes = {"java.lang.String", "java.lang.String", "java.lang.String", "java.sql.Date",
				"java.sql.Timestamp", "java.math.BigDecimal", "java.lang.Long", "java.lang.Boolean",
				"java.lang.String", "[B"};
			for (int i = 0; i < classes.length; i++)
				same(meta.getColumnClassName(i + 1), classes[i]);
			same(meta.getColumnTypeName(3), "text");
			same(meta.getColumnType(4), Types.DATE);
			same(row.next(), true);
			same(row.getObject(3), HANAKO);
			same(row.getObject("birth_date"), java.sql.Date.valueOf(BORN));
			same(row.getObject(4, LocalDate.class), BORN);
			same(row.getDate(4).toLocalDate(), BORN);
			same(row.getObject(5), Timestamp.from(SEEN.toInstant()));
			same(row.getObject(5, OffsetDateTime.class), SEEN);
			same(row.getObject(6), new BigDecimal("52.40"));
			same(row.getObject(7), 3_000_000_000L);
			same(row.getObject(8), false);
			same(((PGobject) row.getObject(9)).getValue(), "{\"n\": 1.5, \"薬\": [\"アスピリン\", null]}");
			same(row.getBytes(10), PHOTO);
			same(row.next(), false);
		}
	}

	/** What schema validators read: here the columns have their own types. */
	static void checkCatalogue() throws SQLException {
		try (var columns = connection.getMetaData().getColumns(null, "public", "patient", "birth_date")) {
			same(columns.next(), true);
			same(columns.getString("TYPE_NAME"), "encdate");
			same(columns.getInt("DATA_TYPE"), Types.OTHER);
		}
	}

	static void checkSearches() throws Exception {
		same(names("birth_date = ?", BORN), List.of(HANAKO));
		same(names("birth_date = ?", java.sql.Date.valueOf(LEAP)), List.of(TARO));
		same(names("birth_date BETWEEN ? AND ? ORDER BY birth_date", BORN, LEAP), List.of(HANAKO, TARO));
		same(names("name IN (?, ?) ORDER BY name", HANAKO, TARO), List.of(TARO, HANAKO));
		same(names("name = ANY (?) ORDER BY name", connection.createArrayOf("text", new Object[] {HANAKO, TARO})),
			List.of(TARO, HANAKO));
		same(names("name LIKE ? ORDER BY name", "佐藤%"), List.of(TARO, HANAKO));
		same(names("lower(name) = lower(?)", NOBODY), List.of(NOBODY));
		same(names("weight = ? AND visits = ? AND smoker = ?", new BigDecimal("52.4"), 3_000_000_000L, false),
			List.of(HANAKO));
		same(names("seen_at = ? AND visits > ?", SEEN, 0), List.of(HANAKO));
		same(names("record ->> 'n' = ?", "1.5"), List.of(HANAKO));
		same(names("photo = ?", PHOTO), List.of(HANAKO));
		same(names("true ORDER BY name"), List.of(TARO, HANAKO, NOBODY));
		same(column("SELECT count(*) FROM patient GROUP BY birth_date ORDER BY birth_date"), List.of(1L, 1L, 1L));
		update("SET enable_seqscan = off");
		for (var search : List.of(List.of("name = ?", HANAKO), List.of("name IN (?, 'x')", HANAKO),
				List.of("birth_date = ?", BORN), List.of("birth_date = ?", java.sql.Date.valueOf(BORN)))) {
			var plan = column("EXPLAIN SELECT id FROM patient WHERE " + search.get(0), search.get(1));
			same(plan.toString().contains("Index Cond"), true);
		}
		update("RESET enable_seqscan");
	}

	static void checkChanges() throws Exception {
		same(update("UPDATE patient SET name = ?, birth_date = ? WHERE name = ?", "鈴木", LEAP, HANAKO), 1);
		String upsert = SHORT + " ON CONFLICT (chart_no) DO UPDATE SET name = excluded.name,"
			+ " birth_date = excluded.birth_date";
		same(update(upsert, "H-1", HANAKO, java.sql.Date.valueOf(BORN)), 1);
		same(column("SELECT birth_date FROM patient WHERE name = ?", HANAKO), List.of(java.sql.Date.valueOf(BORN)));
		fails("23505", () -> update(SHORT, "H-1", "twice", BORN));
		fails("23P01", () -> update("UPDATE patient SET insurance_no = ? WHERE name = ?", "0612", NOBODY));
		try (var insert = connection.prepareStatement(SHORT, Statement.RETURN_GENERATED_KEYS)) {
			insert.setString(1, "H-4");
			insert.setString(2, "key");
			insert.setObject(3, LEAP);
			insert.executeUpdate();
			var keys = insert.getGeneratedKeys();
			same(keys.next() && keys.getLong("id") > 0, true);
			same(keys.getObject("birth_date", LocalDate.class), LEAP);
		}
		try (var rows = connection.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE)
				.executeQuery("SELECT id, name, birth_date FROM patient WHERE name = 'key'")) {
			rows.next();
			rows.updateString("name", "updated");
			rows.updateDate("birth_date", java.sql.Date.valueOf(BORN));
			rows.updateRow();
		}
		same(update("DELETE FROM patient WHERE name = ? AND birth_date = ?", "updated", BORN), 1);
		connection.setAutoCommit(false);
		var before = connection.setSavepoint();
		same(update("DELETE FROM patient WHERE name = ?", TARO), 1);
		connection.rollback(before);
		connection.commit();
		connection.setAutoCommit(true);
		same(names("true ORDER BY name"), List.of(TARO, HANAKO, NOBODY));
	}

	static void checkBulk() throws Exception {
		connection.setAutoCommit(false);
		for (String statement : List.of(SHORT, "UPDATE patient SET chart_no = chart_no, name = 'P' || ? WHERE birth_date = ?")) {
			try (var batch = connection.prepareStatement(statement)) {
				for (int i = 0; i < 300; i++) {
					int parameter = 1;
					if (statement == SHORT)
						batch.setString(parameter++, "B-" + i);
					batch.setString(parameter++, "患者 " + i);
					batch.setObject(parameter, LEAP.plusDays(i + 1));
					batch.addBatch();
				}
				same(batch.executeBatch().length, 300);
			}
		}
		try (var reader = prepare("SELECT birth_date FROM patient WHERE name LIKE ? ORDER BY birth_date", "P患者%")) {
			reader.setFetchSize(50);
			var rows = reader.executeQuery();
			int count = 0;
			while (rows.next())
				same(rows.getObject(1, LocalDate.class), LEAP.plusDays(++count));
			same(count, 300);
		}
		connection.commit();
		connection.setAutoCommit(true);
		var copy = connection.unwrap(PGConnection.class).getCopyAPI();
		same(copy.copyIn("COPY patient_load FROM STDIN (FORMAT csv)",
			new StringReader("C-1,患者,1950-02-28\nC-2,,\n")), 2L);
		var copied = new StringWriter();
		copy.copyOut("COPY patient_load TO STDOUT (FORMAT csv)", copied);
		same(copied.toString(), "C-1,患者,1950-02-28\nC-2,,\n");
	}

	/** A statement that the server prepared for one clinic finds the rows of another, and goes back. */
	static void checkPrepared(String query, Object... parameters) throws SQLException {
		var here = List.of(java.sql.Date.valueOf(BORN));
		var there = List.of(java.sql.Date.valueOf(LEAP));
		for (int run = 0; run < 7; run++)
			same(column(query, parameters), here);
		connection.setAutoCommit(false);
		connection.createStatement().execute("SET LOCAL phi.clinic = 'boston'");
		same(column(query, parameters), List.of());
		update(SHORT, "B-1", HANAKO, LEAP);
		for (int run = 0; run < 7; run++)
			same(column(query, parameters), there);
		connection.rollback();
		connection.setAutoCommit(true);
		same(column(query, parameters), here);
	}

	static void checkSessions() throws Exception {
		connection = connect("ehr");
		same(names("true"), List.of());
		fails("42501", () -> update(SHORT, "X", "no clinic", LEAP));
		update("SET phi.clinic = 'boston'");
		same(names("name = ?", HANAKO), List.of());
		update("SET phi.clinic = 'hakodate'");
		same(names("name = ?", HANAKO), List.of(HANAKO));
		checkPrepared("SELECT birth_date FROM patient WHERE name = '" + HANAKO + "'");
		checkPrepared("SELECT birth_date FROM patient WHERE name = ?", HANAKO);
		connection.close();
		connection = connect("ehr_hakodate");
		same(names("name = ?", HANAKO), List.of(HANAKO));
		fails("42501", () -> update("SET phi.clinic = 'boston'"));
		connection.close();
		connection = connect("dba");
		for (var value : names("true"))
			same(value.toString().startsWith("phi1:"), true);
		connection.close();
	}

	/** Through a pooler, where no statement can stay prepared: each transaction opens its clinic. */
	static void checkPooled() throws Exception {
		connection = connect("ehr", "prepareThreshold", "0");
		connection.setAutoCommit(false);
		for (var clinic : List.of("hakodate", "boston", "hakodate")) {
			same(column("SELECT set_config('phi.clinic', ?, true)", clinic), List.of(clinic));
			same(names("name = ?", HANAKO).isEmpty(), clinic.equals("boston"));
			connection.commit();
			same(names("true"), List.of());
			connection.commit();
		}
		connection.close();
	}

	public static void main(String[] arguments) throws Exception {
		if (arguments.length > 0) {
			checkPooled();
			return;
		}
		connection = connect("ehr", "options", "-c phi.clinic=hakodate");
		String driver = "JDBC, pgjdbc " + connection.getMetaData().getDriverVersion();
		checkTypes();
		checkCatalogue();
		checkSearches();
		checkChanges();
		checkBulk();
		checkSessions();
		System.out.println(driver);
	}
}
