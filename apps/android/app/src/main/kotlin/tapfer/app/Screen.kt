package tapfer.app

import android.annotation.SuppressLint
import android.content.Context
import android.content.Intent
import tapfer.phone.Said

/** What the phone has to say, in the person's language. */
object Screen {
    /** Brings the app to the front with it. The words stay in this process: any app can start the screen. */
    fun show(context: Context, said: List<Said>) {
        TapferApplication.of(context).say(said.joinToString("\n") { inWords(context, it) })
        val intent = Intent(context, MainActivity::class.java).addFlags(Intent.FLAG_ACTIVITY_NEW_TASK)
        context.startActivity(intent)
    }

    /** The texts bear the names of the lines, and a test of the project holds them together. */
    @SuppressLint("DiscouragedApi")
    private fun inWords(context: Context, said: Said): String {
        val text = context.resources.getIdentifier(said.line.textName, "string", context.packageName)
        val about = said.about.orEmpty()
        return context.getString(text, said.merchant?.let { context.getString(R.string.amount_to, about, it) } ?: about)
    }
}
